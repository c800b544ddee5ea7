// What the tests start, on the loopback.

import assert from "node:assert/strict";
import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";

/** Polls until a condition holds. */
export async function until(condition, what, milliseconds) {
	const deadline = Date.now() + milliseconds;
	for (;;) {
		let reason = "";
		try {
			if (await condition()) return;
		} catch (error) {
			reason = `: ${error.message}`;
		}
		assert.ok(Date.now() < deadline, `waited ${milliseconds} ms in vain for ${what}${reason}`);
		await delay(20);
	}
}

/** Ends a process, and waits until it has. */
export function end(process) {
	if (process.pid === undefined || process.exitCode !== null || process.signalCode !== null) return;
	return new Promise((resolve) => {
		process.on("exit", resolve);
		process.kill();
	});
}

// Below the range that systems give to outgoing connections, so that none of
// these gets in the way.
export async function freePort() {
	for (;;) {
		const port = 15_000 + Math.floor(Math.random() * 16_000);
		const server = net.createServer();
		const free = await new Promise((resolve) => {
			server.once("error", () => resolve(false));
			server.listen(port, "127.0.0.1", () => resolve(true));
		});
		if (!free) continue;
		await new Promise((resolve) => server.close(resolve));
		return port;
	}
}
