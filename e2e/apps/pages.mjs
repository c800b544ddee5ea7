// An app in Express whose sessions are of another library: pages that the server
// renders, for who is signed in.

import express from "express";
import { authorize, notes, saveNote } from "./people.mjs";

/**
 * Starts it. Given are:
 *
 * - userOf(request, response): resolves to the user of a session, or null
 * - signIn(request, response, user): begins a session
 * - script: what does so in the browser instead, made of client.mjs
 * - routes(app): adds the library's own
 */
export function serve({ userOf, signIn, script, routes = () => {} }) {
	const app = express();
	app.set("trust proxy", "loopback");
	routes(app);

	const page = (title, body) => document(title, script ? `<script src="/client.js"></script>${body}<p>In the browser: <output></output></p>` : body);
	if (script) app.get("/client.js", (request, response) => response.type("js").send(script));

	app.get("/", (request, response) => {
		response.send(page("Example", '<a href="/admin">Admin</a>'));
	});

	app.get("/login", (request, response) => {
		response.send(page("Sign in", `
			${request.query.error ? '<p role="alert">Please sign in to access this page.</p>' : ""}
			<form method="post">
				<label>E-mail <input name="email" type="email"></label> <label>Password <input name="password" type="password"></label>
				<button>Sign in</button>
			</form>`));
	});

	app.post("/login", express.urlencoded(), async (request, response) => {
		const user = await authorize(request.body);
		if (user) await signIn(request, response, user);
		response.redirect(303, user ? "/admin" : "/login");
	});

	app.use(["/admin", "/api/admin"], async (request, response, next) => {
		response.locals.user = await userOf(request, response);
		if (response.locals.user) return next();
		if (request.baseUrl === "/admin") return response.redirect(303, "/login?error=SessionRequired");
		response.status(401).json({ error: "not signed in" });
	});

	app.get("/admin", async (request, response) => {
		response.send(page("Admin", `
			<p>Hello ${escape(response.locals.user.email)}</p>
			<form method="post" action="/admin/notes"><label>Note <input name="note"></label> <button>Save note</button></form>
			<ul>${(await notes()).map((note) => `<li>${escape(note)}</li>`).join("")}</ul>
			${script ? "<button>Sign out elsewhere</button>" : ""}`));
	});

	app.post("/admin/notes", express.urlencoded(), async (request, response) => {
		await saveNote(response.locals.user.id, request.body.note);
		response.redirect(303, "/admin");
	});

	app.get("/api/admin/stats", async (request, response) => {
		response.json({ notes: (await notes()).length });
	});

	app.listen(process.env.PORT, "127.0.0.1");
}

function document(title, body) {
	return `<!doctype html><html lang="en"><title>${title}</title><h1>${title}</h1>${body}</html>`;
}

function escape(text) {
	return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
