import assert from "node:assert/strict";
import { after } from "node:test";
import { start } from "../stack.mjs";
import { clicks, fetches, opens, testDoors, to } from "./doors.mjs";

const stack = await start("express", { app: "express" });
after(() => stack.stop());

testDoors(stack, ["303 /admin", "303 /api/auth/signin", "200 /auth/signin"], {
	"opening a page": { open: opens("/admin/settings?tab=mail"), request: to("GET", "/admin/settings"), status: 303, back: "/admin/settings?tab=mail" },
	"a link": { open: clicks("link", "Settings"), request: to("GET", "/admin/settings"), status: 303, back: "/admin/settings" },
	"a form": { open: clicks("button", "Save note"), request: to("POST", "/admin/notes"), status: 303 },
	"a fetch": {
		open: fetches("/api/admin/stats"), request: to("GET", "/api/admin/stats"), status: 401,
		stays: async (page, response) => assert.equal((await response.json()).signIn, "/auth/signin?callbackUrl=%2Fadmin&error=SessionRequired"),
	},
	"the session endpoint": {
		open: fetches("/auth/session"), request: to("GET", "/auth/session"), status: 200,
		stays: async (page, response) => assert.equal(await response.json(), null),
	},
});
