"use server";

import { revalidatePath } from "next/cache";
import { redirect } from "next/navigation";
import { auth } from "@/auth";
import { pool } from "@/db";

export async function saveNote(form: FormData) {
	const session = await auth();
	if (!session) redirect("/auth/signin?callbackUrl=/admin");
	await pool.query("INSERT INTO notes (user_id, text) VALUES ($1, $2)", [session.user.id, form.get("note")]);
	revalidatePath("/admin");
}
