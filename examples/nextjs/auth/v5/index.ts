import PostgresAdapter from "@auth/pg-adapter";
import NextAuth, { type DefaultSession } from "next-auth";
import Credentials from "next-auth/providers/credentials";
import { pool } from "@/db";
import { authorize, credentials } from "../credentials";
import { oauth } from "../oauth";

declare module "next-auth" {
	interface Session {
		user: { id: string } & DefaultSession["user"];
	}
}

export const { handlers, auth } = NextAuth({
	adapter: PostgresAdapter(pool),
	session: { strategy: "jwt" },
	providers: [Credentials({ credentials, authorize }), ...oauth],
	pages: { signIn: "/auth/signin" },
	cookies: { sessionToken: { options: { domain: process.env.AUTH_COOKIE_DOMAIN } } },
	callbacks: {
		authorized: ({ auth }) => Boolean(auth),
		session({ session, token }) {
			if (token.sub) session.user.id = token.sub;
			return session;
		},
	},
});
