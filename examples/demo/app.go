package main

import (
	"embed"
	"encoding/json"
	"html/template"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed pages
var files embed.FS

var pages = template.Must(template.ParseFS(files, "pages/*.html"))

// maxUpload bounds what an upload may hold in memory.
const maxUpload = 10 << 20

// app is a site with an admin area, like one made with Next.js and NextAuth: it
// trusts a session until that expires. It does not know about the module.
type app struct {
	secret     string
	module     bool // whether the module is in front, for the page to show
	pool       *pgxpool.Pool
	violations atomic.Int64 // foreign-key violations so far
}

// handler returns the site.
func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.home)
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "pages/style.css") })
	mux.HandleFunc("GET /auth/signin", a.signInPage)
	mux.HandleFunc("POST /api/auth/callback/credentials", a.signIn)
	mux.HandleFunc("GET /api/auth/session", a.session)
	mux.HandleFunc("POST /api/auth/signout", a.signOut)
	mux.HandleFunc("GET /admin", a.admin)
	mux.HandleFunc("POST /api/upload", a.upload)
	mux.HandleFunc("POST /api/site-customization", a.customize)
	mux.HandleFunc("POST /reseed", a.reseed)
	mux.HandleFunc("GET /stats", a.stats)
	return mux
}

// page is what the templates show.
type page struct {
	Title, Callback, Message string
	Session                  *session
	Users                    []user
	Module                   bool
	Violations               int64
}

func (a *app) render(w http.ResponseWriter, r *http.Request, name string, p page) {
	p.Session, p.Module, p.Violations = a.read(r), a.module, a.violations.Load()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := pages.ExecuteTemplate(w, name, p); err != nil {
		http.Error(w, "Internal Server Error", http.StatusInternalServerError)
	}
}

func (a *app) home(w http.ResponseWriter, r *http.Request) {
	p := page{Title: "Stale session demo"}
	if r.URL.Query().Has("reseeded") {
		p.Message = "The database was reseeded: the same people, with new ids. Browsers that were signed in still hold the old ones."
	}
	a.render(w, r, "home.html", p)
}

func (a *app) signInPage(w http.ResponseWriter, r *http.Request) {
	found, err := users(r.Context(), a.pool)
	if err != nil {
		a.fail(w, err)
		return
	}
	p := page{Title: "Sign in", Callback: local(r.URL.Query().Get("callbackUrl")), Users: found}
	if r.URL.Query().Get("error") == "SessionRequired" {
		p.Message = "Please sign in to access this page."
	}
	a.render(w, r, "signin.html", p)
}

// local returns a path within this site.
func local(callback string) string {
	if !strings.HasPrefix(callback, "/") || strings.HasPrefix(callback, "//") || strings.Contains(callback, "\\") {
		return "/admin"
	}
	return callback
}

func (a *app) signIn(w http.ResponseWriter, r *http.Request) {
	found, err := users(r.Context(), a.pool)
	if err != nil {
		a.fail(w, err)
		return
	}
	for _, u := range found {
		if u.Email == r.PostFormValue("email") {
			if err := a.write(w, session{Subject: u.ID, Name: u.Name, Email: u.Email}); err != nil {
				a.fail(w, err)
				return
			}
			http.Redirect(w, r, local(r.PostFormValue("callbackUrl")), http.StatusSeeOther)
			return
		}
	}
	http.Redirect(w, r, "/auth/signin?error=CredentialsSignin", http.StatusSeeOther)
}

// session answers as NextAuth's session endpoint does, and renews the cookie as
// that does, whoever it names.
func (a *app) session(w http.ResponseWriter, r *http.Request) {
	answer := map[string]any{}
	if s := a.read(r); s != nil {
		if err := a.write(w, *s); err != nil {
			a.fail(w, err)
			return
		}
		answer["user"] = map[string]string{"name": s.Name, "email": s.Email}
		answer["expires"] = time.Now().AddDate(0, 0, 30).Format(time.RFC3339)
	}
	writeJSON(w, http.StatusOK, answer)
}

func (a *app) signOut(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (a *app) admin(w http.ResponseWriter, r *http.Request) {
	if a.read(r) == nil {
		http.Redirect(w, r, "/auth/signin?callbackUrl=/admin", http.StatusSeeOther)
		return
	}
	p := page{Title: "Admin"}
	if r.URL.Query().Has("saved") {
		p.Message = "The site's title was saved."
	}
	a.render(w, r, "admin.html", p)
}

// upload keeps a file's name and size, with its owner.
func (a *app) upload(w http.ResponseWriter, r *http.Request) {
	s := a.read(r)
	if s == nil {
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "unauthorized", "message": "Not signed in."})
		return
	}
	file, header, err := r.FormFile("file")
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "bad_request", "message": "No file was sent."})
		return
	}
	defer file.Close()
	size, err := io.Copy(io.Discard, io.LimitReader(file, maxUpload))
	if err == nil {
		_, err = a.pool.Exec(r.Context(), `INSERT INTO "Media" (file, bytes, "ownerId") VALUES ($1, $2, $3)`, header.Filename, size, s.Subject)
	}
	if err != nil {
		a.count(err)
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": "internal", "message": "Internal Server Error"})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"file": header.Filename, "bytes": size})
}

// customize keeps the site's title, with its author.
func (a *app) customize(w http.ResponseWriter, r *http.Request) {
	s := a.read(r)
	if s == nil {
		http.Redirect(w, r, "/auth/signin?callbackUrl=/admin", http.StatusSeeOther)
		return
	}
	if _, err := a.pool.Exec(r.Context(), `INSERT INTO "SiteCustomization" (title, "authorId") VALUES ($1, $2)`, r.PostFormValue("title"), s.Subject); err != nil {
		a.fail(w, err)
		return
	}
	http.Redirect(w, r, "/admin?saved", http.StatusSeeOther)
}

func (a *app) reseed(w http.ResponseWriter, r *http.Request) {
	if err := seed(r.Context(), a.pool); err != nil {
		a.fail(w, err)
		return
	}
	http.Redirect(w, r, "/?reseeded", http.StatusSeeOther)
}

func (a *app) stats(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"foreignKeyViolations": a.violations.Load(), "module": a.module})
}

// fail answers 500, as apps do after an unexpected error.
func (a *app) fail(w http.ResponseWriter, err error) {
	a.count(err)
	http.Error(w, "Internal Server Error", http.StatusInternalServerError)
}

func (a *app) count(err error) {
	if violatesForeignKey(err) {
		a.violations.Add(1)
	}
}

func writeJSON(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // the client is gone, if anything
}
