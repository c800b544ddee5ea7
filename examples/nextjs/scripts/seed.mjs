// Resets the database: empties the tables and inserts three people.
//
//	IDS=uuid              ids are random instead of serial (but for Grace's)
//	SEED_ORDER=reversed   Alan before Ada, which swaps their serial ids

import { randomBytes, scryptSync } from "node:crypto";
import { readFile } from "node:fs/promises";
import nextEnv from "@next/env";
import pg from "pg";

nextEnv.loadEnvConfig(process.cwd());

const uuids = process.env.IDS === "uuid";

const grace = { name: "Grace Hopper", email: "grace@example.com" };
const others = [
	{ name: "Ada Lovelace", email: "ada@example.com" },
	{ name: "Alan Turing", email: "alan@example.com" },
];
if (process.env.SEED_ORDER === "reversed") others.reverse();
if (uuids) grace.id = "6f0a3c5e-9d1b-4f27-8a64-2b7c1e90d8f3";

function hash(password) {
	const salt = randomBytes(16);
	return `${salt.toString("hex")}:${scryptSync(password, salt, 32).toString("hex")}`;
}

const tables = "verification_token, users, accounts, sessions, media, notes, site_customization";

async function emptyTables(client) {
	const { rows } = await client.query(
		`SELECT atttypid::regtype::text AS type FROM pg_attribute
		WHERE attrelid = to_regclass('users') AND attname = 'id'`,
	);
	if (rows[0]?.type === (uuids ? "uuid" : "integer")) {
		await client.query(`TRUNCATE ${tables} RESTART IDENTITY CASCADE`);
		return;
	}
	const schema = await readFile(new URL("../db/schema.sql", import.meta.url), "utf8");
	await client.query(`DROP TABLE IF EXISTS ${tables} CASCADE`);
	await client.query(
		schema
			.replaceAll(":id", uuids ? "UUID DEFAULT gen_random_uuid()" : "SERIAL")
			.replaceAll(":user_id", uuids ? "UUID" : "INTEGER"),
	);
}

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
try {
	await client.query("BEGIN");
	await emptyTables(client);
	for (const person of [grace, ...others]) {
		const row = { ...person, password: hash("password") };
		const columns = Object.keys(row);
		await client.query(
			`INSERT INTO users (${columns}) VALUES (${columns.map((_, i) => `$${i + 1}`)})`,
			Object.values(row),
		);
	}
	await client.query("COMMIT");
} finally {
	await client.end();
}
console.log(`Seeded ${[grace, ...others].map((person) => person.email).join(", ")}; each has the password "password".`);
