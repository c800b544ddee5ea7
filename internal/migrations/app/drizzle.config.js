import { defineConfig } from "drizzle-kit";

export default defineConfig({
	dialect: "postgresql",
	schema: "./drizzle.js",
	dbCredentials: { url: process.env.DATABASE_URL },
});
