// The people of the apps and their notes, in Postgres.

import pg from "pg";

const pool = new pg.Pool({ connectionString: process.env.APP_DATABASE_URL ?? process.env.DATABASE_URL, max: 2 });

/** Returns the user with this e-mail address and password, or null. */
export async function authorize({ email, password }) {
	const { rows } = await pool.query("SELECT id, name, email FROM users WHERE email = $1 AND password = $2", [email, password]);
	return rows[0] ?? null;
}

/** Saves a note, in the name of somebody who has to exist. */
export async function saveNote(author, text) {
	await pool.query("INSERT INTO notes (author, text) VALUES ($1, $2)", [author, text]);
}

/** Returns the notes, the newest first. */
export async function notes() {
	const { rows } = await pool.query("SELECT text FROM notes ORDER BY id DESC");
	return rows.map((row) => row.text);
}
