// A receiver of callbackd's callbacks: verify, de-duplicate, answer fast, work afterwards.
//
//	WEBHOOK_SECRET=whsec_... PORT=8080 go run .
//
// WEBHOOK_SECRET may hold several secrets, separated by spaces: while keys rotate, the old one and the new one.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	longestBody = 16 << 20
	remembered  = 100_000
)

type callback struct {
	id   string
	body []byte
}

type receiver struct {
	webhooks []*standardwebhooks.Webhook
	work     chan callback

	mutex sync.Mutex
	seen  map[string]struct{}
	order []string
}

// verified says whether one of our secrets verifies it. The library compares in constant time and allows five minutes for the timestamp.
func (r *receiver) verified(body []byte, header http.Header) bool {
	for _, webhook := range r.webhooks {
		if webhook.Verify(body, header) == nil {
			return true
		}
	}
	return false
}

// isNew says whether this id comes for the first time. In earnest: a unique column, written in one transaction with the event.
func (r *receiver) isNew(id string) bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if _, known := r.seen[id]; known {
		return false
	}
	r.seen[id] = struct{}{}
	r.order = append(r.order, id)
	if len(r.order) > remembered {
		delete(r.seen, r.order[0])
		r.order = r.order[1:]
	}
	return true
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodPost {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	// The bytes as they came: a body that is parsed and written anew has another signature.
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, longestBody))
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		w.WriteHeader(status)
		return
	}
	if !r.verified(body, request.Header) {
		fmt.Println("refused")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	id := request.Header.Get(standardwebhooks.HeaderWebhookID)
	if r.isNew(id) {
		r.work <- callback{id, body}
	} else {
		fmt.Println("repeat", id)
	}
	// A repeat is answered like the first: the sender only wants to know that it arrived.
	w.Header().Set("content-type", "application/json")
	io.WriteString(w, `{"code":0}`)
}

// process does whatever takes longer than an answer may.
func (r *receiver) process() {
	for callback := range r.work {
		var event struct {
			EventType json.Number `json:"event_type"`
			VideoURL  string      `json:"video_url"`
		}
		if err := json.Unmarshal(callback.body, &event); err != nil {
			log.Printf("%s: %v", callback.id, err)
			continue
		}
		fmt.Println("new", callback.id, event.EventType, event.VideoURL)
	}
}

func main() {
	r := &receiver{work: make(chan callback, 10_000), seen: map[string]struct{}{}}
	for _, secret := range strings.Fields(os.Getenv("WEBHOOK_SECRET")) {
		webhook, err := standardwebhooks.NewWebhook(secret)
		// The library would take an empty secret, with which anybody can sign.
		if err != nil || strings.TrimPrefix(secret, "whsec_") == "" {
			log.Fatal("WEBHOOK_SECRET is not whsec_ and base64")
		}
		r.webhooks = append(r.webhooks, webhook)
	}
	if len(r.webhooks) == 0 {
		log.Fatal("WEBHOOK_SECRET is not set: `callbackd verify --key-file KEY --show-secret </dev/null` prints it")
	}
	go r.process()
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	server := &http.Server{Handler: r, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second}
	log.Fatal(server.Serve(listener))
}
