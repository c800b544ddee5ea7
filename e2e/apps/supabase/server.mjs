import { createServerClient, parseCookieHeader, serializeCookieHeader } from "@supabase/ssr";
import { bundle } from "../bundle.mjs";
import { serve } from "../pages.mjs";
import "./auth.mjs";

const url = process.env.SUPABASE_URL;

serve({
	async userOf(request, response) {
		const client = createServerClient(url, "key", {
			cookies: {
				getAll: () => parseCookieHeader(request.headers.cookie ?? ""),
				setAll: (all) => all.forEach(({ name, value, options }) => response.append("Set-Cookie", serializeCookieHeader(name, value, options))),
			},
		});
		const { data } = await client.auth.getClaims();
		return data ? { id: data.claims.sub, email: data.claims.email } : null;
	},
	script: await bundle("client.mjs", { SUPABASE_URL: JSON.stringify(url) }),
});
