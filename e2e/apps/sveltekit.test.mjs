import assert from "node:assert/strict";
import { after } from "node:test";
import { start } from "../stack.mjs";
import { clicks, fetches, opens, testDoors, to } from "./doors.mjs";

const stack = await start("sveltekit", { app: "sveltekit" });
after(() => stack.stop());

const remote = (method) => (request) => request.method() === method && new URL(request.url()).pathname.startsWith("/_app/remote/");

testDoors(stack, ["303 /admin", "303 /api/auth/signin", "200 /auth/signin"], {
	"opening a page": { open: opens("/admin/settings?tab=mail"), request: to("GET", "/admin/settings"), status: 303, back: "/admin/settings?tab=mail" },
	"a client-side navigation": { open: clicks("link", "Settings"), request: to("GET", "/admin/settings/__data.json"), status: 200, back: "/admin/settings" },
	"a form action": { open: clicks("button", "Save note"), request: to("POST", "/admin?/save"), status: 401 },
	"a form action without JavaScript": { script: false, open: clicks("button", "Save note"), request: to("POST", "/admin?/save"), status: 303 },
	"a remote form": { open: clicks("button", "Save remote note"), request: remote("POST"), status: 200 },
	"a remote query": { open: clicks("button", "Count again"), request: remote("GET"), status: 200 },
	"a remote command": {
		open: clicks("button", "Save by command"), request: remote("POST"), status: 401,
		stays: (page) => page.getByText("Refused: 401").waitFor(),
	},
	"a fetch": {
		open: fetches("/api/admin/stats"), request: to("GET", "/api/admin/stats"), status: 401,
		stays: async (page, response) => assert.equal((await response.json()).signIn, "/auth/signin?callbackUrl=%2Fadmin&error=SessionRequired"),
	},
	"the session endpoint": {
		open: fetches("/auth/session"), request: to("GET", "/auth/session"), status: 200,
		stays: async (page, response) => assert.equal(await response.json(), null),
	},
});
