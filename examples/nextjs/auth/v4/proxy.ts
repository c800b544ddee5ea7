import { withAuth } from "next-auth-v4/middleware";

export const proxy = withAuth({ pages: { signIn: "/auth/signin" } });
