// The first label of the host says which strategy counts.

import { fromNodeHeaders, toNodeHandler } from "better-auth/node";
import { bundle } from "../bundle.mjs";
import { serve } from "../pages.mjs";
import { withStrategy } from "./auth.mjs";

const strategies = Object.fromEntries(["none", "compact", "jwt", "jwe"].map((strategy) => [strategy, withStrategy(strategy)]));
const auth = (request) => strategies[request.hostname.split(".")[0]];

serve({
	async userOf(request, response) {
		const { headers, response: session } = await auth(request).api.getSession({ headers: fromNodeHeaders(request.headers), returnHeaders: true });
		for (const cookie of headers.getSetCookie()) response.append("Set-Cookie", cookie);
		return session?.user ?? null;
	},
	script: await bundle("client.mjs"),
	routes: (app) => app.all("/api/auth/*any", (request, response) => toNodeHandler(auth(request))(request, response)),
});
