import { auth } from "@/auth";
import { pool } from "@/db";

export async function GET() {
	const session = await auth();
	if (!session) return Response.json({ error: "Not signed in" }, { status: 401 });
	const { rows } = await pool.query(
		"SELECT (SELECT count(*)::int FROM users) AS users, (SELECT count(*)::int FROM notes) AS notes",
	);
	return Response.json(rows[0]);
}
