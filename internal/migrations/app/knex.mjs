// Runs migrations: up to the one that is named, or all of them back.
import knex from "knex";

const steps = {
	create: [
		(schema) => schema.createTable("users", (table) => {
			table.increments("id");
			table.string("email");
			table.timestamp("deletedAt");
		}),
		(schema) => schema.dropTable("users"),
	],
	retype: [
		(schema) => schema.alterTable("users", (table) => table.bigInteger("id").alter({ alterNullable: false })),
		(schema) => schema.alterTable("users", (table) => table.integer("id").alter({ alterNullable: false })),
	],
	columns: [
		(schema) => schema.alterTable("users", (table) => {
			table.dropColumn("deletedAt");
			table.boolean("banned").notNullable().defaultTo(false);
			table.string("email", 400).alter();
		}),
		(schema) => schema.alterTable("users", (table) => {
			table.timestamp("deletedAt");
			table.dropColumn("banned");
		}),
	],
	renameColumn: [
		(schema) => schema.alterTable("users", (table) => table.renameColumn("id", "uid")),
		(schema) => schema.alterTable("users", (table) => table.renameColumn("uid", "id")),
	],
	renameTable: [(schema) => schema.renameTable("users", "people"), (schema) => schema.renameTable("people", "users")],
	recreate: [
		(schema) => schema.dropTable("people").createTable("people", (table) => table.uuid("id").primary()),
		(schema) => schema.dropTable("people").createTable("people", (table) => {
			table.bigIncrements("uid");
			table.string("email");
			table.boolean("banned").notNullable().defaultTo(false);
		}),
	],
};

const db = knex({ client: "pg", connection: process.env.DATABASE_URL });
const migrationSource = {
	getMigrations: async () => Object.keys(steps),
	getMigrationName: (name) => name,
	getMigration: async (name) => ({ up: (trx) => steps[name][0](trx.schema), down: (trx) => steps[name][1](trx.schema) }),
};
const [command] = process.argv.slice(2);
await db.migrate[command]({ migrationSource }, true);
await db.destroy();
