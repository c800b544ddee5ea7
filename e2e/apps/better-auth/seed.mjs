// Makes the tables. People sign up by themselves.

import { getMigrations } from "better-auth/db/migration";
import { database, options } from "./auth.mjs";

await (await getMigrations(options("none"))).runMigrations();
await database.query('CREATE TABLE notes (id SERIAL PRIMARY KEY, author TEXT NOT NULL REFERENCES "user" ON DELETE CASCADE, text TEXT NOT NULL)');
process.exit(); // Redis is still connected
