// What clients make of the end of their session: those of the browser in Chromium,
// and libraries in Node.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createClient } from "graphql-ws";
import { io } from "socket.io-client";
import WebSocket from "ws";
import { patience, start } from "../dashboard/caddy.mjs";
import { freePort, until } from "../processes.mjs";
import { startApp } from "./app.mjs";

let app, caddy;
before(async () => {
	const port = await freePort();
	app = await startApp(port);
	caddy = await start("streams", `reverse_proxy 127.0.0.1:${port}`);
});
after(async () => {
	await caddy?.stop();
	app?.stop();
});

/** Makes a user, whose session is returned with a function that deletes them. */
async function join(id) {
	await caddy.people(id);
	return { cookie: caddy.session(id), leave: () => caddy.query(`DELETE FROM "User" WHERE id = $1`, id) };
}

/** A page of a user in Chromium. */
async function visit(t, { cookie }) {
	const page = await caddy.window(t);
	const [name, value] = cookie.split("=");
	await page.context().addCookies([{ name, value, url: caddy.site }]);
	await page.goto(caddy.site);
	return page;
}

const requestsOf = (path) => app.requests.filter((of) => of === path).length;

describe("when the user is deleted", { concurrency: true }, () => {
	test("EventSource connects once more, and stops at the 401", async (t) => {
		const user = await join("eve");
		const page = await visit(t, user);
		const answers = [];
		page.on("response", (response) => { if (response.url().endsWith("/app/events")) answers.push(response.status()); });
		await page.evaluate(() => new Promise((resolve) => {
			window.source = new EventSource("/app/events");
			window.source.onmessage = resolve;
		}));
		await user.leave();
		await page.waitForFunction(() => window.source.readyState === EventSource.CLOSED);
		assert.deepEqual(answers, [200, 401]);
		assert.equal(requestsOf("/app/events"), 1);
	});

	test("a WebSocket of the browser is closed cleanly, with the code 1008", async (t) => {
		const user = await join("walt");
		const page = await visit(t, user);
		await page.evaluate(() => new Promise((resolve) => {
			const socket = new WebSocket("/app/socket");
			window.ending = new Promise((resolve) => { socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean }); });
			socket.onopen = resolve;
		}));
		await user.leave();
		assert.deepEqual(await page.evaluate(() => window.ending), { code: 1008, reason: "The session has ended.", wasClean: true });
		const again = await page.evaluate(() => new Promise((resolve) => {
			new WebSocket("/app/socket").onclose = ({ code }) => resolve(code);
		}));
		assert.equal(again, 1006);
		assert.equal(requestsOf("/app/socket"), 1);
	});

	test("graphql-ws gives up, although it may retry", async () => {
		const user = await join("gina");
		let connected = 0;
		const client = createClient({
			url: `${caddy.site.replace("http", "ws")}/app/graphql`,
			webSocketImpl: class extends WebSocket {
				constructor(url, protocols) { super(url, protocols, { headers: { cookie: user.cookie } }); }
			},
			shouldRetry: () => true,
			retryAttempts: 5,
			retryWait: async () => {},
			on: { connecting: () => connected++ },
		});
		const closed = await new Promise((resolve, reject) => {
			client.subscribe({ query: "subscription { said }" }, {
				next: () => user.leave().catch(reject),
				error: resolve,
				complete: () => reject(new Error("the subscription looks complete")),
			});
		});
		assert.equal(closed.code, 1008);
		assert.equal(connected, 1);
		assert.equal(requestsOf("/app/graphql"), 1);
	});

	test("Socket.IO asks again, the app does not hear of it, and once somebody is signed in it is connected", async (t) => {
		const user = await join("sara");
		const client = io(caddy.site, {
			path: "/app/socket.io", transports: ["websocket"], extraHeaders: { cookie: user.cookie }, reconnectionDelay: 20, reconnectionDelayMax: 50,
		});
		t.after(() => client.close());
		await new Promise((resolve) => client.once("connect", resolve));
		const why = new Promise((resolve) => client.once("disconnect", resolve));
		let refused = 0;
		client.on("connect_error", () => refused++);
		await user.leave();
		assert.equal(await why, "transport close");
		await until(() => refused >= 3, "Socket.IO to ask again", patience);
		assert.equal(requestsOf("/app/socket.io/"), 1);
		client.io.opts.extraHeaders.cookie = (await join("sally")).cookie;
		await until(() => client.connected, "Socket.IO to be connected again", patience);
	});
});
