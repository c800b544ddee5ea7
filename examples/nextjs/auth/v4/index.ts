import PostgresAdapter from "@auth/pg-adapter";
import NextAuth, { getServerSession, type DefaultSession, type NextAuthOptions } from "next-auth-v4";
import type { Adapter } from "next-auth-v4/adapters";
import CredentialsProvider from "next-auth-v4/providers/credentials";
import { pool } from "@/db";
import { authorize, credentials } from "../credentials";
import { oauth } from "../oauth";

declare module "next-auth-v4" {
	interface Session {
		user: { id: string } & DefaultSession["user"];
	}
}

const secure = process.env.NEXTAUTH_URL?.startsWith("https://") ?? false;

const options: NextAuthOptions = {
	adapter: PostgresAdapter(pool) as Adapter,
	session: { strategy: "jwt" },
	providers: [CredentialsProvider({ credentials, authorize }), ...oauth],
	pages: { signIn: "/auth/signin" },
	cookies: {
		sessionToken: {
			name: `${secure ? "__Secure-" : ""}next-auth.session-token`,
			options: { domain: process.env.AUTH_COOKIE_DOMAIN, httpOnly: true, sameSite: "lax", path: "/", secure },
		},
	},
	callbacks: {
		session({ session, token }) {
			if (token.sub) session.user.id = token.sub;
			return session;
		},
	},
};

const handler = NextAuth(options);

export const handlers = { GET: handler, POST: handler };

export const auth = () => getServerSession(options);
