import { scrypt, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";
import { pool } from "@/db";

export const credentials = {
	email: { label: "E-mail", type: "email" },
	password: { label: "Password", type: "password" },
};

/** The user with this e-mail address and password, or null. */
export async function authorize(given: Partial<Record<keyof typeof credentials, unknown>> | undefined) {
	const { rows } = await pool.query("SELECT id, name, email, image, password FROM users WHERE email = $1", [given?.email]);
	const user = rows[0];
	if (!user?.password || !(await matches(String(given?.password), user.password))) return null;
	return { id: String(user.id), name: user.name, email: user.email, image: user.image };
}

async function matches(password: string, stored: string) {
	const [salt, hash] = stored.split(":").map((part) => Buffer.from(part, "hex"));
	return timingSafeEqual(hash, (await promisify(scrypt)(password, salt, hash.length)) as Buffer);
}
