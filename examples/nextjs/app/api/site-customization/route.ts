import { auth } from "@/auth";
import { pool } from "@/db";

export async function POST(request: Request) {
	const session = await auth();
	if (!session) return Response.json({ error: "Not signed in" }, { status: 401 });

	const json = request.headers.get("content-type")?.startsWith("application/json");
	const title = json ? (await request.json()).title : (await request.formData()).get("title");
	if (typeof title !== "string" || !title) return Response.json({ error: "No title" }, { status: 400 });

	await pool.query(
		`INSERT INTO site_customization (key, value, updated_by) VALUES ('title', $1, $2)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_by = excluded.updated_by`,
		[title, session.user.id],
	);
	if (json) return Response.json({ title });
	return new Response(null, { status: 303, headers: { Location: "/admin?saved=title" } });
}
