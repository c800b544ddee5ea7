// Processes and ports on the loopback.

import assert from "node:assert/strict";
import dgram from "node:dgram";
import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";

/** Polls until a condition holds, at an interval in milliseconds. */
export async function until(condition, what, milliseconds, interval = 20) {
	const deadline = Date.now() + milliseconds;
	for (;;) {
		let reason = "";
		try {
			if (await condition()) return;
		} catch (error) {
			reason = `: ${error.message}`;
		}
		assert.ok(Date.now() < deadline, `waited ${milliseconds} ms for ${what}${reason}`);
		await delay(interval);
	}
}

/** Ends a process and waits for its exit. */
export function end(process) {
	if (process.pid === undefined || process.exitCode !== null || process.signalCode !== null) return;
	return new Promise((resolve) => {
		process.on("exit", resolve);
		process.kill();
	});
}

// The ports of internal/testing/ports, which are reserved in the same way.
const first = 14_000;
const number = 8_000;

/** Returns a port that no other test gets while this process runs. */
export async function freePort() {
	for (;;) {
		const port = first + Math.floor(Math.random() * number);
		const reservation = dgram.createSocket("udp4").unref();
		if (!(await succeeds(reservation, () => reservation.bind({ port: port + number, address: "127.0.0.1", exclusive: true })))) continue;
		const server = net.createServer();
		if (await succeeds(server, () => server.listen(port, "127.0.0.1"))) {
			await new Promise((resolve) => server.close(resolve));
			return port;
		}
		reservation.close();
	}
}

/** Starts to listen, and returns whether that succeeds. */
function succeeds(socket, start) {
	return new Promise((resolve) => {
		socket.once("error", () => resolve(false));
		socket.once("listening", () => resolve(true));
		start();
	});
}
