// An app with the real handlers of NextAuth v4 or Auth.js v5 (VARIANT=v4, v5):
// JWT sessions, sign-in by id, users in Postgres (DATABASE_URL). It prints the
// address that it listens on.
import { webcrypto } from "node:crypto"
import { createServer } from "node:http"
import { parse } from "cookie"
import pg from "pg"

globalThis.crypto ??= webcrypto // Node 18 has it without a name; Auth.js v5 needs the name

const { VARIANT, DATABASE_URL, AUTH_SECRET: secret } = process.env
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 2 })

const config = {
  secret,
  session: { strategy: "jwt" },
  callbacks: {
    // What an app does that wants a time of sign-in that survives renewals.
    jwt: ({ token, user }) => (user ? { ...token, loginAt: Math.floor(Date.now() / 1000) } : token),
  },
}

async function authorize({ id }) {
  const { rows } = await pool.query('select id::text, email from "User" where id::text = $1', [id])
  return rows[0] ?? null
}

// handlers answer a request of the auth routes, and tell whose session a
// request holds. Both are the library's own doing.
const handlers = {
  async v4() {
    const { default: NextAuth } = await import("next-auth")
    const { getToken } = await import("next-auth/jwt")
    const { default: Credentials } = await import("next-auth/providers/credentials")
    const options = { ...config, providers: [Credentials.default({ credentials: { id: {} }, authorize })] }
    return {
      async answer(req, body) {
        const url = new URL(req.url, "http://" + req.headers.host)
        req.query = { ...Object.fromEntries(url.searchParams), nextauth: url.pathname.split("/").slice(3) }
        req.cookies = parse(req.headers.cookie ?? "")
        req.body = Object.fromEntries(new URLSearchParams(body))
        const answer = { status: 200, headers: [], body: "" }
        const res = {
          status: (status) => ((answer.status = status), res),
          setHeader: (name, value) => (answer.headers.push([name, value]), res),
          getHeader: (name) => answer.headers.filter(([n]) => n.toLowerCase() === name.toLowerCase()).flatMap(([, v]) => v),
          json: (value) => res.send(JSON.stringify(value)),
          send: (value) => ((answer.body = typeof value === "string" ? value : JSON.stringify(value ?? "")), res),
          end: (value) => ((answer.body = value ?? ""), res),
          redirect: (status, to) => ((answer.status = status), res.setHeader("Location", to)),
        }
        await NextAuth.default(req, res, options)
        // Set-Cookie is set anew with all of them each time.
        const last = answer.headers.findLast(([name]) => name === "Set-Cookie")
        answer.headers = answer.headers.filter(([name]) => name !== "Set-Cookie").concat(last ? [last] : [])
        return answer
      },
      token: (req) => getToken({ req: { headers: req.headers, cookies: parse(req.headers.cookie ?? "") }, secret, secureCookie: false }),
    }
  },
  async v5() {
    const { Auth } = await import("@auth/core")
    const { getToken } = await import("@auth/core/jwt")
    const { default: Credentials } = await import("@auth/core/providers/credentials")
    const options = { ...config, trustHost: true, basePath: "/api/auth", providers: [Credentials({ credentials: { id: {} }, authorize })] }
    return {
      async answer(req, body) {
        const url = "http://" + req.headers.host + req.url
        const made = await Auth(new Request(url, { method: req.method, headers: req.headers, body: body || undefined }), options)
        const headers = [...made.headers].filter(([name]) => name !== "set-cookie")
        return { status: made.status, headers: headers.concat([["Set-Cookie", made.headers.getSetCookie()]]), body: await made.text() }
      },
      token: (req) => getToken({ req: { headers: new Headers(req.headers) }, secret, secureCookie: false }),
    }
  },
}
const auth = await handlers[VARIANT]()

// A response of the session route that is told to wait is made at once, and
// sent when it is released.
let release
const server = createServer(async (req, res) => {
  let body = ""
  for await (const chunk of req) body += chunk
  try {
    if (req.url === "/release") {
      release?.()
      res.end()
      return
    }
    if (!req.url.startsWith("/api/auth/")) {
      const token = await auth.token(req)
      res.end(JSON.stringify({ subject: token?.sub ?? null }))
      return
    }
    const answer = await auth.answer(req, body)
    if (req.headers["x-hold"]) {
      const held = new Promise((resolve) => (release = resolve))
      console.log("held")
      await held
    }
    for (const [name, value] of answer.headers) res.setHeader(name, value)
    res.statusCode = answer.status
    res.end(answer.body)
  } catch (error) {
    res.statusCode = 500
    res.end(String(error?.stack ?? error))
  }
})
server.listen(0, "127.0.0.1", () => console.log("127.0.0.1:" + server.address().port))
