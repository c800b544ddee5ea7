package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

func init() {
	register("bench_query", func() handler { return new(query) })
}

// query checks each session with one query and caches nothing: the obvious
// implementation.
type query struct {
	key  []byte
	pool *pgxpool.Pool
}

// CaddyModule returns the Caddy module information.
func (query) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_query", New: func() caddy.Module { return new(query) }}
}

// Provision reads the environment.
func (q *query) Provision(ctx caddy.Context) error {
	var err error
	q.key, err = hkdf.Key(sha256.New, []byte(os.Getenv("NEXTAUTH_SECRET")), nil, "NextAuth.js Generated Encryption Key", 32)
	if err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	config.MaxConns = 4
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	if q.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	context.AfterFunc(ctx, q.pool.Close)
	return nil
}

// ServeHTTP passes a request if the user of its session exists.
func (q *query) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	subject, err := q.subject(r)
	if err != nil {
		return caddyhttp.Error(http.StatusUnauthorized, err)
	}
	var one int
	err = q.pool.QueryRow(r.Context(), `select 1 from "User" where id = $1`, subject).Scan(&one)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return caddyhttp.Error(http.StatusUnauthorized, err)
	case err != nil:
		return caddyhttp.Error(http.StatusServiceUnavailable, err)
	}
	return next.ServeHTTP(w, r)
}

// subject returns the user id in the session cookie of NextAuth v4.
func (q *query) subject(r *http.Request) (string, error) {
	cookie, err := r.Cookie("next-auth.session-token")
	if err != nil {
		return "", err
	}
	token, err := jose.ParseEncryptedCompact(cookie.Value, []jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return "", err
	}
	payload, err := token.Decrypt(q.key)
	if err != nil {
		return "", err
	}
	var claims struct {
		Subject string `json:"sub"`
		Expires int64  `json:"exp"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "", err
	}
	if claims.Expires < time.Now().Unix() {
		return "", errors.New("expired")
	}
	return claims.Subject, nil
}
