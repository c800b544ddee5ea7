// Auth.js under /auth. Everything under /admin and /api/admin is for users.

import { SvelteKitAuth } from "@auth/sveltekit";
import Credentials from "@auth/sveltekit/providers/credentials";
import { redirect } from "@sveltejs/kit";
import { sequence } from "@sveltejs/kit/hooks";
import { authorize } from "../../people.mjs";

const auth = SvelteKitAuth({
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
});

async function guard({ event, resolve }) {
	event.locals.user = (await event.locals.auth())?.user;
	if (/^(\/api)?\/admin(\/|$)/.test(event.url.pathname) && !event.locals.user) redirect(303, "/auth/signin");
	return resolve(event);
}

export const handle = sequence(auth.handle, guard);
