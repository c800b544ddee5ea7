import { createAuthClient } from "better-auth/client";
import { start } from "../client.mjs";

const client = createAuthClient();

start({
	async signIn(email, password) {
		const { error } = await client.signIn.email({ email, password });
		if (error) await client.signUp.email({ name: email, email, password });
	},
	signOutElsewhere: () => client.revokeOtherSessions(),
	watch(shows) {
		client.useSession.subscribe(({ data, isPending }) => {
			if (!isPending) shows(data?.user.email);
		});
	},
});
