-- The tables of @auth/pg-adapter, and the app's own. scripts/seed.mjs fills in
-- :id and :user_id, which are SERIAL and INTEGER, or a UUID with a default.
-- By hand: psql -v id=SERIAL -v user_id=INTEGER -f db/schema.sql

CREATE TABLE verification_token (
	identifier TEXT NOT NULL,
	expires TIMESTAMPTZ NOT NULL,
	token TEXT NOT NULL,
	PRIMARY KEY (identifier, token)
);

CREATE TABLE users (
	id :id,
	name VARCHAR(255),
	email VARCHAR(255) UNIQUE,
	"emailVerified" TIMESTAMPTZ,
	image TEXT,
	password TEXT,
	PRIMARY KEY (id)
);

CREATE TABLE accounts (
	id SERIAL,
	"userId" :user_id NOT NULL,
	type VARCHAR(255) NOT NULL,
	provider VARCHAR(255) NOT NULL,
	"providerAccountId" VARCHAR(255) NOT NULL,
	refresh_token TEXT,
	access_token TEXT,
	expires_at BIGINT,
	id_token TEXT,
	scope TEXT,
	session_state TEXT,
	token_type TEXT,
	PRIMARY KEY (id)
);

CREATE TABLE sessions (
	id SERIAL,
	"userId" :user_id NOT NULL,
	expires TIMESTAMPTZ NOT NULL,
	"sessionToken" VARCHAR(255) NOT NULL,
	PRIMARY KEY (id)
);

CREATE TABLE media (
	id SERIAL PRIMARY KEY,
	user_id :user_id NOT NULL REFERENCES users (id),
	name TEXT NOT NULL,
	type TEXT NOT NULL,
	content BYTEA NOT NULL
);

CREATE TABLE notes (
	id SERIAL PRIMARY KEY,
	user_id :user_id NOT NULL REFERENCES users (id),
	text TEXT NOT NULL
);

CREATE TABLE site_customization (
	key TEXT PRIMARY KEY,
	value TEXT NOT NULL,
	updated_by :user_id NOT NULL REFERENCES users (id)
);
