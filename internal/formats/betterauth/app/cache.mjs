// Answers, for each line with a Cookie field in JSON, whose session the real Better
// Auth takes it for, by a cache of the strategy in STRATEGY. It has no database, so
// that only the cache counts.
import { createInterface } from "node:readline"
import { betterAuth } from "better-auth"

const auth = betterAuth({
  session: { cookieCache: { enabled: true, strategy: process.env.STRATEGY, refreshCache: false } },
  telemetry: { enabled: false },
  logger: { disabled: true },
})

for await (const line of createInterface({ input: process.stdin })) {
  const headers = new Headers({ cookie: JSON.parse(line) })
  let session
  try {
    session = await auth.api.getSession({ headers })
  } catch {} // it is nobody's
  console.log(JSON.stringify(session?.user.id ?? ""))
}
