import assert from "node:assert/strict";
import { after } from "node:test";
import { start } from "../stack.mjs";
import { clicks, fetches, opens, testDoors, to } from "./doors.mjs";

const stack = await start("react-router", { app: "react-router" });
after(() => stack.stop());

testDoors(stack, ["303 /admin", "200 /login"], {
	"opening a page": { open: opens("/admin/settings?tab=mail"), request: to("GET", "/admin/settings"), status: 303, back: "/admin/settings?tab=mail" },
	"a client-side navigation": { from: "/", open: clicks("link", "Admin"), request: to("GET", "/admin.data"), status: 204, back: "/admin" },
	"an action": { open: clicks("button", "Save note"), request: to("POST", "/admin.data"), status: 204 },
	"a fetcher": { open: clicks("button", "Save by fetcher"), request: to("POST", "/admin.data"), status: 204 },
	"a form without JavaScript": { script: false, open: clicks("button", "Save note"), request: to("POST", "/admin"), status: 303 },
	"a fetch": {
		open: fetches("/api/admin/stats"), request: to("GET", "/api/admin/stats"), status: 401,
		stays: async (page, response) => assert.equal((await response.json()).signIn, "/login?callbackUrl=%2Fadmin&error=SessionRequired"),
	},
	"the session endpoint": {
		open: fetches("/session"), request: to("GET", "/session"), status: 200,
		stays: async (page, response) => assert.equal(await response.json(), null),
	},
});
