import Link from "next/link";
import { redirect } from "next/navigation";
import { auth } from "@/auth";

export default async function Settings() {
	const session = await auth();
	if (!session) redirect("/auth/signin?callbackUrl=/admin/settings");
	return (
		<>
			<nav>
				<Link href="/admin">Admin</Link>
			</nav>
			<h1>Settings</h1>
			<p>Signed in with {session.user.email}</p>
		</>
	);
}
