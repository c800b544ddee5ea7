// Resets the database: everyone but Grace is somebody else then.

import pg from "pg";

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
try {
	await client.query(`
		BEGIN;
		CREATE TABLE IF NOT EXISTS users (
			id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
			name TEXT NOT NULL, email TEXT NOT NULL UNIQUE, password TEXT NOT NULL
		);
		CREATE TABLE IF NOT EXISTS notes (
			id SERIAL PRIMARY KEY, author UUID NOT NULL REFERENCES users ON DELETE CASCADE, text TEXT NOT NULL
		);
		DELETE FROM users WHERE email <> 'grace@example.com';
		INSERT INTO users (name, email, password) VALUES
			('Grace Hopper', 'grace@example.com', 'password'),
			('Ada Lovelace', 'ada@example.com', 'password')
			ON CONFLICT DO NOTHING;
		COMMIT`);
} finally {
	await client.end();
}
