// Makes the tables of Supabase's auth server that count, with their row-level security;
// runs the SQL of the documentation for the role of Caddy.

import { readFileSync } from "node:fs";
import pg from "pg";

const page = readFileSync("../../../docs/fronting/supabase.md", "utf8");
const [, role] = /^```sql\n(.*?)^```/ms.exec(page);

const client = new pg.Client({ connectionString: process.env.APP_DATABASE_URL });
await client.connect();
await client.query(`
	CREATE SCHEMA auth;
	CREATE TABLE auth.users (
		id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
		email TEXT NOT NULL UNIQUE, banned_until TIMESTAMPTZ, deleted_at TIMESTAMPTZ
	);
	CREATE TABLE auth.sessions (
		id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
		user_id UUID NOT NULL REFERENCES auth.users ON DELETE CASCADE, not_after TIMESTAMPTZ
	);
	ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
	ALTER TABLE auth.sessions ENABLE ROW LEVEL SECURITY;
	CREATE TABLE notes (id SERIAL PRIMARY KEY, author UUID NOT NULL REFERENCES auth.users ON DELETE CASCADE, text TEXT NOT NULL);
	INSERT INTO auth.users (email) VALUES ('grace@example.com'), ('ada@example.com')`);
await client.query(role);
await client.end();
