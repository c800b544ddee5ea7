export { SessionProvider, signIn, signOut, useSession } from "next-auth-v4/react";
