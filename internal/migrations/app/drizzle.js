// The schema of an app, after as many changes as STEP says.
import { boolean, integer, pgTable, text, timestamp, varchar } from "drizzle-orm/pg-core";

const step = Number(process.env.STEP);

const columns = {
	id: (step < 2 ? integer() : text()).primaryKey(),
	email: step < 4 ? text() : varchar({ length: 200 }),
};
if (step < 3) columns.deletedAt = timestamp();
if (step >= 4) columns.banned = boolean().notNull().default(false);

export const users = step === 5 ? undefined : pgTable("users", columns);
export const posts = pgTable("posts", { id: integer().primaryKey(), title: text() });
