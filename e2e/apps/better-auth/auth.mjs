// Better Auth, with each strategy of its cookie cache. The sessions are in Postgres, or
// in Redis where there is one.

import { betterAuth } from "better-auth";
import { Redis } from "ioredis";
import pg from "pg";

export const database = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4 });
const redis = process.env.REDIS_URL && new Redis(process.env.REDIS_URL);

// As @better-auth/redis-storage does.
const secondaryStorage = redis && {
	get: (key) => redis.get(`better-auth:${key}`),
	set: (key, value, ttl) => (ttl ? redis.set(`better-auth:${key}`, value, "EX", ttl) : redis.set(`better-auth:${key}`, value)),
	delete: (key) => redis.del(`better-auth:${key}`),
};

/** Returns the options with a strategy, or with "none". */
export const options = (strategy) => ({
	database,
	secondaryStorage,
	emailAndPassword: {
		enabled: true,
		password: { hash: async (password) => password, verify: async ({ hash, password }) => hash === password }, // for speed
	},
	session: { cookieCache: { enabled: strategy !== "none", strategy: strategy === "none" ? "compact" : strategy } },
	trustedOrigins: (request) => (request ? [request.headers.get("origin")] : []),
	rateLimit: { enabled: false },
	telemetry: { enabled: false },
	logger: { level: "error" },
});

export const withStrategy = (strategy) => betterAuth(options(strategy));
