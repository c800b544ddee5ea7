import { createBrowserClient } from "@supabase/ssr";
import { start } from "../client.mjs";

const client = createBrowserClient(SUPABASE_URL, "key");

start({
	signIn: (email, password) => client.auth.signInWithPassword({ email, password }),
	signOutElsewhere: () => client.auth.signOut({ scope: "others" }),
	watch: (shows) => client.auth.onAuthStateChange((event, session) => shows(session?.user.email)),
});
