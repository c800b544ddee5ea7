// With SESSION_SECRET, the session is a cookie of createCookieSessionStorage. Otherwise
// it is a signed token in a cookie, which lasts an hour.

import { jwtVerify, SignJWT } from "jose";
import { createCookieSessionStorage, redirect } from "react-router";

const key = new TextEncoder().encode(process.env.AUTH_SECRET);
const secret = process.env.SESSION_SECRET;
const storage = secret && createCookieSessionStorage({ cookie: { secrets: [secret], path: "/", httpOnly: true, sameSite: "lax" } });

/** Returns the Set-Cookie field of a new session. */
export async function begin({ id, name }) {
	if (storage) {
		const session = await storage.getSession();
		session.set("userId", id);
		session.set("name", name);
		return storage.commitSession(session);
	}
	const token = new SignJWT({ name }).setProtectedHeader({ alg: "HS256" }).setSubject(id);
	return `__session=${await token.setIssuedAt().setExpirationTime("1h").sign(key)}; Path=/; HttpOnly; SameSite=Lax`;
}

/** Returns the user of a request, or null. */
export async function userOf(request) {
	if (storage) {
		const session = await storage.getSession(request.headers.get("Cookie"));
		return session.has("userId") ? { id: session.get("userId"), name: session.get("name") } : null;
	}
	const [, token] = /(?:^|; )__session=([^;]*)/.exec(request.headers.get("Cookie")) ?? [];
	if (!token) return null;
	try {
		const { payload } = await jwtVerify(token, key, { algorithms: ["HS256"] });
		return { id: payload.sub, name: payload.name };
	} catch {
		return null;
	}
}

/** Returns the user of a request, or leads to the sign-in page. */
export async function required(request) {
	const user = await userOf(request);
	if (!user) throw redirect("/login");
	return user;
}
