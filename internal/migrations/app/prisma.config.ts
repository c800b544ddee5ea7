import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";
import { defineConfig } from "prisma/config";

// The adapter does not know two types of the catalog: "char" (18) and name (19).
class Pool extends pg.Pool {
	async query(...args) {
		const result = await super.query(...args);
		for (const field of result.fields ?? []) {
			if (field.dataTypeID === 18 || field.dataTypeID === 19) field.dataTypeID = 25;
		}
		return result;
	}
}

// A timer of the CLI keeps its process for another minute.
const later = globalThis.setTimeout;
globalThis.setTimeout = (...args) => {
	const timer = later(...args);
	if (args[1] >= 30_000) timer.unref();
	return timer;
};

// The engine in WebAssembly: the other one is not in an npm package.
export default defineConfig({
	schema: process.env.SCHEMA,
	migrations: { path: process.env.MIGRATIONS },
	experimental: { adapter: true },
	engine: "js",
	adapter: async () => new PrismaPg(new Pool({ connectionString: process.env.DATABASE_URL, allowExitOnIdle: true })),
});
