import { auth } from "@/auth";
import { pool } from "@/db";

export async function POST(request: Request) {
	const session = await auth();
	if (!session) return Response.json({ error: "Not signed in" }, { status: 401 });

	const file = (await request.formData()).get("file");
	if (!(file instanceof File)) return Response.json({ error: "No file" }, { status: 400 });

	await pool.query("INSERT INTO media (user_id, name, type, content) VALUES ($1, $2, $3, $4)", [
		session.user.id,
		file.name,
		file.type,
		Buffer.from(await file.arrayBuffer()),
	]);
	return Response.json({ name: file.name });
}
