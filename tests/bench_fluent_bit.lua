-- What the three built-in rules ask for, as a Lua filter for raw CloudTrail: the measure that firstseen is held against.
-- In: a record. Out: 0 for one that stays as it is, or the record with `firstseen.alerts`, one entry a rule.
-- A tuple is known for its window after its last record, by the records' timestamps. The history is a table: it grows, and
-- ends with the process. Not here: other dialects, the texts and entities of alerts, redelivered events, a history on disk.

local DAY = 24 * 60 * 60

-- Each key's last record, in seconds since 1970.
local seen = {}

local function is_new(key, window, now)
    local last = seen[key]
    seen[key] = now
    return last == nil or now - last > window
end

local function text(value)
    if value == nil or type(value) == "table" then
        return ""
    end
    return tostring(value)
end

local function is_foreign(organization)
    return type(organization) == "string"
        and organization:find("^AMAZON") == nil
        and organization:find("^Amazon") == nil
        and organization:find("^Google") == nil
        and organization ~= "MongoDB, Inc."
end

-- The columns that the rule on hijacking groups by.
local function group(record, identity)
    local context = type(identity.sessionContext) == "table" and identity.sessionContext or {}
    local attributes = type(context.attributes) == "table" and context.attributes or {}
    local issuer = type(context.sessionIssuer) == "table" and context.sessionIssuer or {}
    return table.concat({
        text(record.sourceIPAddress),
        text(record.eventType),
        text(record.recipientAccountId),
        text(identity.arn),
        text(identity.accountId),
        text(identity.principalId),
        text(record.userAgent),
        text(issuer.userName),
        text(attributes.mfaAuthenticated),
        text(record.awsRegion),
        text(record.eventSource),
        text(record.additionalEventData),
        text(record.responseElements),
    }, "\31")
end

function firstseen(tag, timestamp, record)
    local name = record["eventName"]
    if type(name) ~= "string" or #name ~= 17 or name:lower() ~= "getcalleridentity" then
        return 0, timestamp, record
    end
    local identity = record["userIdentity"]
    if type(identity) ~= "table" then
        return 0, timestamp, record
    end
    local kind = text(identity.type)
    local is_sts = name == "GetCallerIdentity" and record["eventSource"] == "sts.amazonaws.com"
    local arn = text(identity.arn)
    local alerts = {}

    local organization = record["source.as.organization.name"]
    if is_sts and kind == "AssumedRole"
        and record["errorCode"] == nil and record["errorMessage"] == nil
        and text(identity.principalId):find(":i-", 1, true) ~= nil
        and is_foreign(organization)
        and is_new("1\31" .. arn .. "\31" .. organization, 10 * DAY, timestamp)
    then
        alerts[#alerts + 1] = { rule = "GetCallerIdentity by an EC2 role session from a new AS organization", arn = arn }
    end
    if is_sts and kind ~= "AssumedRole" and identity.arn ~= nil and is_new("2\31" .. arn, 10 * DAY, timestamp) then
        alerts[#alerts + 1] = { rule = "First GetCallerIdentity by an identity that is not an assumed role", arn = arn }
    end
    if kind:lower() == "assumedrole" and is_new("3\31" .. group(record, identity), DAY, timestamp) then
        alerts[#alerts + 1] = { rule = "GetCallerIdentity by an assumed role: credential abuse or hijacking", arn = arn }
    end

    if #alerts == 0 then
        return 0, timestamp, record
    end
    record["firstseen"] = { alerts = alerts }
    return 2, timestamp, record
end
