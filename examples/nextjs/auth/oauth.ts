const issuer = process.env.OAUTH_ISSUER;

/** A plain OAuth 2 provider, when the environment names one. */
export const oauth = issuer
	? [
			{
				id: "test",
				name: "Test",
				type: "oauth" as const,
				authorization: { url: `${issuer}/authorize`, params: { scope: "profile email" } },
				token: `${issuer}/token`,
				userinfo: `${issuer}/userinfo`,
				clientId: process.env.OAUTH_CLIENT_ID,
				clientSecret: process.env.OAUTH_CLIENT_SECRET,
				checks: ["pkce" as const, "state" as const],
				profile: (profile: { sub: string; name: string; email: string }) => ({
					id: profile.sub,
					name: profile.name,
					email: profile.email,
				}),
			},
		]
	: [];
