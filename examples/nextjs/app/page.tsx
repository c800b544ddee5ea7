import Link from "next/link";
import { SessionStatus } from "./session-status";

export default function Home() {
	return (
		<>
			<nav>
				<Link href="/admin">Admin</Link>
				<Link href="/auth/signin">Sign in</Link>
			</nav>
			<h1>Example</h1>
			<SessionStatus />
		</>
	);
}
