// An app with a page and a stream of events, for people who are signed in. LIBRARY
// keeps its sessions, as the library's documentation sets it up: @auth/express, where
// CHECK asks the database, or better-auth, where CACHE is the cookie cache. LISTEN is
// the app's address.
import express from "express";
import pg from "pg";
import { live } from "./user.mjs";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4 });
const app = express();

async function authjs() {
	const { ExpressAuth, getSession } = await import("@auth/express");
	const config = {
		trustHost: true,
		secret: process.env.NEXTAUTH_SECRET,
		providers: [],
		// null ends the session.
		callbacks: process.env.CHECK ? { jwt: async ({ token }) => ((await live(pool, token)) ? token : null) } : {},
	};
	app.use("/auth", ExpressAuth(config));
	return (request) => getSession(request, config);
}

async function betterAuth() {
	const { betterAuth } = await import("better-auth");
	const { getMigrations } = await import("better-auth/db/migration");
	const { fromNodeHeaders, toNodeHandler } = await import("better-auth/node");
	const { admin } = await import("better-auth/plugins");
	const options = {
		database: pool,
		secret: process.env.BETTER_AUTH_SECRET,
		emailAndPassword: {
			enabled: true,
			password: { hash: async (password) => password, verify: async ({ hash, password }) => hash === password }, // for speed
		},
		session: { cookieCache: { enabled: Boolean(process.env.CACHE), maxAge: 5 * 60 } },
		plugins: [admin()],
		rateLimit: { enabled: false },
		trustedOrigins: (request) => (request ? [request.headers.get("origin")] : []),
		telemetry: { enabled: false },
		logger: { level: "error" },
	};
	await (await getMigrations(options)).runMigrations();
	const auth = betterAuth(options);
	app.all("/api/auth/*splat", toNodeHandler(auth));
	return (request) => auth.api.getSession({ headers: fromNodeHeaders(request.headers) });
}

const session = await { "@auth/express": authjs, "better-auth": betterAuth }[process.env.LIBRARY]();

app.use("/admin", async (request, response, next) => {
	if (await session(request)) next();
	else response.sendStatus(401);
});

app.get("/admin", (request, response) => {
	response.send("app\n");
});

app.get("/admin/events", (request, response) => {
	response.type("text/event-stream");
	const send = () => response.write("data: event\n\n");
	const sending = setInterval(send, 1000);
	response.on("close", () => clearInterval(sending));
	send();
});

const [host, port] = process.env.LISTEN.split(":");
// Longer than Caddy keeps a connection, so that none is closed as a request is sent.
app.listen(Number(port), host).keepAliveTimeout = 5 * 60 * 1000;
