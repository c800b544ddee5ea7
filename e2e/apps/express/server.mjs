// Auth.js under /auth, and pages that the server renders.

import { ExpressAuth, getSession } from "@auth/express";
import Credentials from "@auth/express/providers/credentials";
import express from "express";
import { authorize, notes, saveNote } from "../people.mjs";

const auth = {
	trustHost: true,
	providers: [
		Credentials({
			credentials: { email: { label: "E-mail", type: "email" }, password: { label: "Password", type: "password" } },
			authorize,
		}),
	],
	callbacks: {
		session({ session, token }) {
			session.user.id = token.sub;
			return session;
		},
	},
};

const app = express();
app.set("trust proxy", "loopback");
app.use("/auth", ExpressAuth(auth));

app.get("/", (request, response) => {
	response.send(page("Example", '<a href="/admin">Admin</a>'));
});

app.use(["/admin", "/api/admin"], async (request, response, next) => {
	const session = await getSession(request, auth);
	if (!session) return response.redirect(303, "/auth/signin");
	response.locals.user = session.user;
	next();
});

app.get("/admin", async (request, response) => {
	response.send(page("Admin", `
		<p>Hello ${escape(response.locals.user.name)}</p>
		<form method="post" action="/admin/notes"><label>Note <input name="note"></label> <button>Save note</button></form>
		<ul>${(await notes()).map((note) => `<li>${escape(note)}</li>`).join("")}</ul>
		<a href="/admin/settings">Settings</a>`));
});

app.get("/admin/settings", (request, response) => {
	response.send(page("Settings", '<a href="/admin">Admin</a>'));
});

app.post("/admin/notes", express.urlencoded(), async (request, response) => {
	await saveNote(response.locals.user.id, request.body.note);
	response.redirect(303, "/admin");
});

app.get("/api/admin/stats", async (request, response) => {
	response.json({ notes: (await notes()).length });
});

function page(title, body) {
	return `<!doctype html><html lang="en"><title>${title}</title><h1>${title}</h1>${body}</html>`;
}

function escape(text) {
	return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

app.listen(process.env.PORT, "127.0.0.1");
