package provision

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/logout"
)

// Logouts are the options of how others end sessions, each nil when they
// cannot.
type Logouts struct {
	Backchannel *logout.BackchannelConfig
	Webhook     *logout.WebhookConfig
	// Issuer, Audience and JWKS are those of the session tokens, which are the
	// defaults.
	Issuer, Audience, JWKS string
}

// Logouts takes the endpoints on which others end sessions.
func (h *Held) Logouts(env environment.Environment, options Logouts) (logout.Endpoints, error) {
	var all logout.Endpoints
	if o := options.Backchannel; o != nil {
		source, err := h.backchannel(env, options)
		if err != nil {
			return nil, err
		}
		all = append(all, logout.New(cmp.Or(o.Path, env.AuthPath()+"/backchannel-logout"), source))
	}
	if o := options.Webhook; o != nil {
		secrets, err := env.FillAll("secret", o.Secrets)
		if err != nil {
			return nil, err
		}
		source, err := logout.NewWebhook(secrets)
		if err != nil {
			return nil, fmt.Errorf("logout_webhook: %w", err)
		}
		all = append(all, logout.New(cmp.Or(o.Path, env.AuthPath()+"/logout-webhook"), source))
	}
	for _, e := range all {
		if e.Path[0] != '/' {
			return nil, fmt.Errorf("the path %q does not begin with a slash", e.Path)
		}
	}
	return all, nil
}

func (h *Held) backchannel(env environment.Environment, options Logouts) (source logout.OIDC, err error) {
	o := options.Backchannel
	if !slices.Contains([]string{"", logout.EndsSession, logout.EndsUser}, o.Ends) {
		return source, fmt.Errorf("ends of backchannel_logout is %q; it can be session or user", o.Ends)
	}
	source.User = o.Ends == logout.EndsUser
	location, err := env.Fill("jwks", cmp.Or(o.JWKS, options.JWKS))
	if err != nil {
		return source, err
	}
	if source.Issuer, err = env.Fill("issuer", cmp.Or(o.Issuer, options.Issuer)); err != nil {
		return source, err
	}
	if source.Audience, err = env.Fill("audience", cmp.Or(o.Audience, options.Audience)); err != nil {
		return source, err
	}
	if location == "" || source.Issuer == "" || source.Audience == "" {
		return source, errors.New("backchannel_logout needs issuer, audience and jwks")
	}
	keys, err := h.keySet(location)
	if err != nil {
		return source, err
	}
	source.Keys, err = jose.NewVerifier(jose.VerifierConfig{Type: jose.TypeLogout, JWKS: keys})
	return source, err
}
