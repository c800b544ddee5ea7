export { SessionProvider, signIn, signOut, useSession } from "next-auth/react";
