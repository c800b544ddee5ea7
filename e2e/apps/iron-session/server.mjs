import { getIronSession } from "iron-session";
import { serve } from "../pages.mjs";

const options = { cookieName: "example", password: process.env.SESSION_PASSWORD, cookieOptions: { secure: false } };

serve({
	async userOf(request, response) {
		return (await getIronSession(request, response, options)).user ?? null;
	},
	async signIn(request, response, user) {
		const session = await getIronSession(request, response, options);
		session.user = user;
		await session.save();
	},
});
