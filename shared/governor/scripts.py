"""What is asked of Redis in one round trip, in Lua. The keys: `board.py`.

Every script takes the time from Redis, so that no node's clock matters.
"""

# KEYS: the host's hash, its permits. ARGV: permit, connections, seconds between requests, seconds
# that a permit lives, the longest wait for a turn, when to look again, seconds that a probe has,
# seconds until all is forgotten, permits that came back.
ENTER = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local hash, permits = KEYS[1], KEYS[2]
local permit, connections, interval = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if #ARGV > 8 then redis.call('ZREM', permits, unpack(ARGV, 9)) end
local known = redis.call('HMGET', hash, 'dead_until', 'held_until', 'probe_until', 'next_request')
local function seconds(till) return tostring(till - now) end
local dead, held, probe = tonumber(known[1]), tonumber(known[2]), tonumber(known[3])
if dead and now < dead then return {'dead', seconds(dead)} end
if held and now < held then return {'held', seconds(held)} end
local probing = dead or held
if probing and probe and now < probe then
  return {dead and 'dead' or 'held', tostring(math.min(probe - now, tonumber(ARGV[6])))}
end
local turn = now
if interval > 0 then
  turn = math.max(now, tonumber(known[4]) or 0)
  if turn - now > tonumber(ARGV[5]) then return {'turn', seconds(turn)} end
end
redis.call('ZREMRANGEBYSCORE', permits, '-inf', now)
if redis.call('ZCARD', permits) >= connections then return {'full', ARGV[6]} end
redis.call('ZADD', permits, now + tonumber(ARGV[4]), permit)
redis.call('EXPIRE', permits, ARGV[8])
if interval > 0 then redis.call('HSET', hash, 'next_request', turn + interval) end
if probing then redis.call('HSET', hash, 'probe_until', now + tonumber(ARGV[7])) end
if interval > 0 or probing then redis.call('EXPIRE', hash, ARGV[8]) end
return {probing and 'probe' or 'go', seconds(turn)}
"""

# KEYS: the hash. ARGV: the field, its count, seconds asked (-1: none), the first and the longest
# wait, seconds until all is forgotten. The longest wait that anybody was asked for holds; without
# one it doubles from try to try.
SHUT = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local hash, till, times = KEYS[1], ARGV[1], ARGV[2]
local asked, first, most = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local known = redis.call('HMGET', hash, till, times)
local before, count = tonumber(known[1]) or 0, tonumber(known[2]) or 0
if before <= now then count = redis.call('HINCRBY', hash, times, 1) end
local wait = asked
if wait < 0 then wait = math.min(first * 2 ^ math.max(count - 1, 0), most) end
local new = math.max(before, now + wait)
redis.call('HSET', hash, till, new)
redis.call('HDEL', hash, 'probe_until')
redis.call('EXPIRE', hash, math.max(tonumber(ARGV[6]), math.ceil(wait) + 60))
return tostring(new - now)
"""

# KEYS: the hash. ARGV: bytes, bytes per second, seconds until all is forgotten.
PACE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local at = math.max(now, tonumber(redis.call('HGET', KEYS[1], 'next_byte')) or 0)
redis.call('HSET', KEYS[1], 'next_byte', at + ARGV[1] / ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return tostring(at - now)
"""
