"use client";

import { signOut, useSession } from "@/auth/client";

export function SessionStatus() {
	const { data: session, status } = useSession();
	if (status === "loading") return <p data-testid="session">…</p>;
	if (!session) return <p data-testid="session">Not signed in</p>;
	return (
		<>
			<p data-testid="session">Signed in as {session.user.name}</p>
			<button onClick={() => signOut({ callbackUrl: "/" })}>Sign out</button>
		</>
	);
}
