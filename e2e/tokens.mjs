// Session cookies, made by the app's libraries.

import { encode as encodeV5 } from "../examples/nextjs/node_modules/@auth/core/jwt.js";
import { encode as encodeV4 } from "../examples/nextjs/node_modules/next-auth-v4/jwt/index.js";
import { variant } from "./stack.mjs";

// The longest value that the libraries put into one cookie.
const chunk = variant === "v4" ? 3933 : 3936;

/** Gives a browser a session with some claims, in chunks if it is long. */
export async function giveSession(context, address, claims, secret) {
	const name = `${address.startsWith("https:") ? "__Secure-" : ""}${variant === "v4" ? "next-auth" : "authjs"}.session-token`;
	const token = variant === "v4" ? await encodeV4({ token: claims, secret }) : await encodeV5({ token: claims, secret, salt: name });
	const values = token.match(new RegExp(`.{1,${chunk}}`, "g"));
	await context.addCookies(
		values.map((value, i) => ({ name: values.length > 1 ? `${name}.${i}` : name, value, url: address, httpOnly: true, sameSite: "Lax" })),
	);
}
