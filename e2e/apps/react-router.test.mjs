import assert from "node:assert/strict";
import { after } from "node:test";
import { start } from "../stack.mjs";
import { clicks, fetches, opens, testDoors, to } from "./doors.mjs";

const stack = await start("react-router", { app: "react-router" });
after(() => stack.stop());

/**
 * Clicks, and has the data asked for before the code of the page: the answer to that
 * clears the cookies, too, and without them the app leads to its sign-in page by itself.
 */
const dataFirst = (click, request) => async (page) => {
	const asked = page.waitForRequest(request);
	await page.route("**/assets/**", async (route) => {
		await asked;
		await route.continue();
	});
	await click(page);
};

const adminData = to("GET", "/admin.data");

testDoors(stack, ["303 /admin", "200 /login"], {
	"opening a page": { open: opens("/admin/settings?tab=mail"), request: to("GET", "/admin/settings"), status: 303, back: "/admin/settings?tab=mail" },
	"a client-side navigation": { from: "/", open: dataFirst(clicks("link", "Admin"), adminData), request: adminData, status: 204, back: "/admin" },
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
