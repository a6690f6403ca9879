/* The floor: accepts WebSocket clients without checking anything, reads lines from the feed and send()s each to all.
 * usage: send_loop PORT FEED_PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CLIENTS 20000
#define MAX_LINE 65536

static int clients[MAX_CLIENTS], count;

static int listener(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) { perror("listen"); exit(1); }
    return fd;
}

static void welcome(int listening) {
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    char head[4096];
    int one = 1, fd = accept(listening, 0, 0);
    if (fd < 0 || count == MAX_CLIENTS) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (recv(fd, head, sizeof head, 0) <= 0 || send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0) { close(fd); return; }
    clients[count++] = fd;
}

static void broadcast(const char *line, size_t size) {
    unsigned char frame[MAX_LINE + 10];
    size_t head = 2;
    frame[0] = 0x81;
    if (size < 126) frame[1] = size;
    else { frame[1] = 126; frame[2] = size >> 8; frame[3] = size; head = 4; }
    memcpy(frame + head, line, size);
    for (int i = 0; i < count; i++)
        if (send(clients[i], frame, head + size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN) clients[i--] = clients[--count];
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int port = listener(atoi(argv[1])), feeds = listener(atoi(argv[2])), feed = -1, poll = epoll_create1(0);
    static char buffer[MAX_LINE * 4];
    size_t filled = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = port}, ready[64];
    epoll_ctl(poll, EPOLL_CTL_ADD, port, &event);
    event.data.fd = feeds;
    epoll_ctl(poll, EPOLL_CTL_ADD, feeds, &event);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(poll, ready, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == port) { welcome(port); continue; }
            if (fd == feeds) {
                feed = accept(feeds, 0, 0);
                event.data.fd = feed;
                epoll_ctl(poll, EPOLL_CTL_ADD, feed, &event);
                continue;
            }
            ssize_t got = read(feed, buffer + filled, sizeof buffer - filled);
            if (got <= 0) { close(feed); filled = 0; continue; }
            filled += got;
            char *start = buffer, *end;
            while ((end = memchr(start, '\n', buffer + filled - start))) { broadcast(start, end - start); start = end + 1; }
            filled -= start - buffer;
            memmove(buffer, start, filled);
        }
    }
}
