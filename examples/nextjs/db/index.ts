import { Pool } from "pg";

export const pool = new Pool({ connectionString: process.env.DATABASE_URL });

// Without a listener, an idle connection that the server closes ends the process.
pool.on("error", (error) => console.error("database connection lost:", error.message));
