import Link from "next/link";
import { redirect } from "next/navigation";
import { auth } from "@/auth";
import { pool } from "@/db";
import { saveNote } from "./actions";
import { TitleForm } from "./title-form";
import { UploadForm } from "./upload-form";

export default async function Admin({ searchParams }: { searchParams: Promise<{ saved?: string }> }) {
	const session = await auth();
	if (!session) redirect("/auth/signin?callbackUrl=/admin");

	const [{ saved }, notes, title] = await Promise.all([
		searchParams,
		pool.query("SELECT id, text FROM notes ORDER BY id"),
		pool.query("SELECT value FROM site_customization WHERE key = 'title'"),
	]);

	return (
		<>
			<nav>
				<Link href="/admin/settings">Settings</Link>
				<Link href="/">Home</Link>
			</nav>
			<h1>Admin</h1>
			<p>Hello {session.user.name}</p>

			<h2>Media</h2>
			<UploadForm />

			<h2>Notes</h2>
			<ul>
				{notes.rows.map((note) => (
					<li key={note.id}>{note.text}</li>
				))}
			</ul>
			<form action={saveNote}>
				<label>
					Note <input name="note" required />
				</label>
				<button>Save note</button>
			</form>

			<h2>Site</h2>
			{saved === "title" && <p role="status">Title saved.</p>}
			<TitleForm title={title.rows[0]?.value} />
		</>
	);
}
