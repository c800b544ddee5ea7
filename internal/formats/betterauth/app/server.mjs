// An app with the real Better Auth: users and sessions in Postgres (DATABASE_URL). It
// prints an address for each strategy of the cookie cache.
import { createServer } from "node:http"
import { betterAuth } from "better-auth"
import { getMigrations } from "better-auth/db/migration"
import { fromNodeHeaders, toNodeHandler } from "better-auth/node"
import { admin, bearer, jwt } from "better-auth/plugins"
import { Redis } from "ioredis"
import pg from "pg"

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 3 })

// stores are where apps keep their sessions, if not in Postgres: somewhere, or in Redis
// as @better-auth/redis-storage does.
const memory = new Map()
const redis = new Redis(process.env.REDIS_URL)
const key = (name) => "better-auth:" + name
const stores = {
  elsewhere: { get: (name) => memory.get(name), set: (name, value) => void memory.set(name, value), delete: (name) => void memory.delete(name) },
  redis: {
    get: (name) => redis.get(key(name)),
    set: (name, value, ttl) => (ttl ? redis.set(key(name), value, "EX", ttl) : redis.set(key(name), value)),
    delete: (name) => redis.del(key(name)),
  },
}

// options are those of a strategy: "none" is an app without a cache, "elsewhere" one
// that has its sessions not in Postgres, "redis" one that has them in Redis, without a
// cache.
function options(strategy) {
  const signed = strategy === "plugin"
  return {
    secondaryStorage: stores[strategy],
    database: pool,
    emailAndPassword: {
      enabled: true,
      password: { hash: async (password) => password, verify: async ({ hash, password }) => hash === password }, // for speed
    },
    rateLimit: { enabled: false },
    session: { cookieCache: { enabled: !["none", "redis"].includes(strategy), strategy: signed ? "jwt" : ["jwt", "jwe"].includes(strategy) ? strategy : "compact" } },
    plugins: [admin(), bearer(), jwt(signed ? { sessionCookieCache: true } : undefined)],
    trustedOrigins: (request) => (request ? [request.headers.get("origin")] : []),
    telemetry: { enabled: false },
    logger: { level: "error" },
  }
}

await (await getMigrations(options("none"))).runMigrations()
await pool.query('create table note (author text not null references "user" (id) on delete cascade)')

for (const strategy of ["none", "compact", "jwt", "jwe", "plugin", "elsewhere", "redis"]) {
  const auth = betterAuth(options(strategy))
  const handler = toNodeHandler(auth)
  const server = createServer(async (req, res) => {
    try {
      if (req.url.startsWith("/api/auth/")) {
        await handler(req, res)
        return
      }
      const session = await auth.api.getSession({ headers: fromNodeHeaders(req.headers) })
      if (req.method === "POST" && session) {
        await pool.query("insert into note values ($1)", [session.user.id])
      }
      res.statusCode = session ? 200 : 401
      res.end(JSON.stringify({ email: session?.user.email ?? "" }))
    } catch (error) {
      res.statusCode = 500
      res.end(String(error?.stack ?? error))
    }
  })
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
  console.log(strategy + " 127.0.0.1:" + server.address().port)
}
