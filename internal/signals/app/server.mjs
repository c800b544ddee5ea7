// A real OpenID provider, Better Auth with its plugin (PROVIDER_DATABASE_URL), and a real
// app, Auth.js with the pg adapter and JWT sessions (DATABASE_URL), which people reach at
// SITE. It prints the addresses of both, the issuer, and the app's client id.
import dns from "node:dns"
import { webcrypto } from "node:crypto"
import { createServer } from "node:http"
import { Auth } from "@auth/core"
import { getToken } from "@auth/core/jwt"
import PostgresAdapter from "@auth/pg-adapter"
import { oauthProvider } from "@better-auth/oauth-provider"
import { betterAuth } from "better-auth"
import { getMigrations } from "better-auth/db/migration"
import { toNodeHandler } from "better-auth/node"
import { jwt } from "better-auth/plugins"
import pg from "pg"

globalThis.crypto ??= webcrypto // Node 18 has it without a name

const { SITE, DATABASE_URL, PROVIDER_DATABASE_URL, AUTH_SECRET: secret } = process.env

// The provider takes the site for one on the Internet. It is here.
const lookup = dns.lookup
dns.lookup = (name, ...rest) => lookup(name === new URL(SITE).hostname ? "127.0.0.1" : name, ...rest)

const listen = (server) => new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve("127.0.0.1:" + server.address().port)))
const fail = (res) => (error) => {
  console.error(error)
  res.statusCode = 500
  res.end(String(error?.stack ?? error))
}

// The provider. Its users are numbered, as the app's are, but in another order.
let answer
const provider = createServer((req, res) => answer(req, res).catch(fail(res)))
const providerAddress = await listen(provider)
const options = {
  baseURL: "http://" + providerAddress,
  secret,
  database: new pg.Pool({ connectionString: PROVIDER_DATABASE_URL, max: 3 }),
  advanced: { database: { generateId: "serial" } },
  emailAndPassword: {
    enabled: true,
    password: { hash: async (password) => password, verify: async ({ hash, password }) => hash === password }, // for speed
  },
  rateLimit: { enabled: false },
  plugins: [jwt(), oauthProvider({ loginPage: "/sign-in", consentPage: "/consent" })],
  telemetry: { enabled: false },
  logger: { level: "warn" },
}
await (await getMigrations(options)).runMigrations()
const idp = betterAuth(options)
answer = toNodeHandler(idp)
const issuer = options.baseURL + "/api/auth"

const { headers } = await idp.api.signUpEmail({ body: { name: "Root", email: "root@example.com", password: "a password" }, returnHeaders: true })
const client = await idp.api.adminCreateOAuthClient({
  headers: { cookie: headers.getSetCookie().map((cookie) => cookie.split(";")[0]).join("; ") },
  body: {
    redirect_uris: [SITE + "/api/auth/callback/idp"],
    backchannel_logout_uri: SITE + "/api/auth/backchannel-logout",
    skip_consent: true,
  },
})

// The app. Its jwt callback keeps the provider's sid, as docs/configuration.md has it.
const app = {
  secret,
  trustHost: true,
  basePath: "/api/auth",
  session: { strategy: "jwt" },
  adapter: PostgresAdapter(new pg.Pool({ connectionString: DATABASE_URL, max: 3 })),
  providers: [{ id: "idp", name: "IdP", type: "oidc", issuer, clientId: client.client_id, clientSecret: client.client_secret }],
  callbacks: {
    jwt({ token, profile }) {
      if (profile?.sid) token.sid = profile.sid
      return token
    },
  },
}
const site = createServer(async (req, res) => {
  try {
    let body = ""
    for await (const chunk of req) body += chunk
    const request = new Request(SITE + req.url, { method: req.method, headers: req.headers, body: body || undefined })
    if (!req.url.startsWith("/api/auth/")) {
      const token = await getToken({ req: request, secret, secureCookie: true })
      res.end(JSON.stringify({ subject: token?.sub ?? "" }))
      return
    }
    const made = await Auth(request, app)
    res.statusCode = made.status
    for (const [name, value] of made.headers) if (name !== "set-cookie") res.setHeader(name, value)
    res.setHeader("Set-Cookie", made.headers.getSetCookie())
    res.end(await made.text())
  } catch (error) {
    fail(res)(error)
  }
})
console.log([providerAddress, await listen(site), issuer, client.client_id].join(" "))
