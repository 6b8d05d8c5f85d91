// A Container App with the proxy beside the app's container, with an identity that may call an Azure OpenAI resource.

@description('The Azure OpenAI resource, in this resource group.')
param accountName string

@description('Whether to make it, with one deployment and without API keys. Else it must be there.')
param newAccount bool = false

@description('The Container Apps environment, in this resource group.')
param environmentName string

@description('The app.')
param appImage string
param appPort int = 8080

@description('The proxy, where you have pushed it.')
param proxyImage string

@description('The container registry of both images, in this resource group. Empty: anybody may pull them.')
param registryName string = ''

param location string = resourceGroup().location
param name string = 'app'
param minReplicas int = 1
param maxReplicas int = 10

@description('Whether the identity may list the models of regions (Reader on the subscription).')
param listModels bool = false

param modelName string = 'gpt-4o-mini'
param modelVersion string = '2024-07-18'
param capacity int = 10

module account '../bicep/account.bicep' = if (newAccount) {
  name: '${name}-account'
  params: {
    name: accountName
    location: location
    modelName: modelName
    modelVersion: modelVersion
    capacity: capacity
  }
}

// Its own, not the app's: it has the role before the first replica starts.
resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-openai'
  location: location
}

module roles '../bicep/account-roles.bicep' = {
  name: '${name}-roles'
  params: {
    accountName: accountName
    principalId: identity.properties.principalId
  }
  dependsOn: [
    account
  ]
}

module models '../bicep/subscription-reader.bicep' = if (listModels) {
  name: '${name}-models'
  scope: subscription()
  params: {
    principalId: identity.properties.principalId
  }
}

resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' existing = if (!empty(registryName)) {
  name: empty(registryName) ? 'none' : registryName
}

// AcrPull
var acrPull = '7f951dda-4ed3-4680-a7ca-43fe172d538d'

resource pull 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(registryName)) {
  name: guid(registry.id, identity.id, acrPull)
  scope: registry
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', acrPull)
  }
}

resource environment 'Microsoft.App/managedEnvironments@2024-03-01' existing = {
  name: environmentName
}

resource app 'Microsoft.App/containerApps@2024-03-01' = {
  name: name
  location: location
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    environmentId: environment.id
    configuration: {
      ingress: {
        external: false
        targetPort: appPort
      }
      registries: empty(registryName) ? [] : [
        {
          server: registry!.properties.loginServer
          identity: identity.id
        }
      ]
    }
    template: {
      // limits.shutdown_grace (30 s) and ten seconds more.
      terminationGracePeriodSeconds: 40
      containers: [
        {
          name: 'app'
          image: appImage
          env: [
            {
              name: 'OPENAI_BASE_URL'
              value: 'http://localhost:8642/v1'
            }
            {
              name: 'OPENAI_API_KEY'
              value: 'unused'
            }
          ]
          resources: {
            cpu: json('0.5')
            memory: '1Gi'
          }
        }
        {
          name: 'aoai-auth-proxy'
          image: proxyImage
          env: [
            {
              name: 'AZURE_OPENAI_ENDPOINT'
              value: 'https://${accountName}.openai.azure.com'
            }
            {
              name: 'AOAI_PROXY__CREDENTIAL__KIND'
              value: 'managed-identity'
            }
            {
              name: 'AZURE_CLIENT_ID'
              value: identity.properties.clientId
            }
            {
              // For /management/models and /management/deployments.
              name: 'AZURE_SUBSCRIPTION_ID'
              value: subscription().subscriptionId
            }
            {
              name: 'AOAI_PROXY__TELEMETRY__LOG_FORMAT'
              value: 'json'
            }
            {
              // For the probes, which come over the network. Ingress leads to the app's port alone.
              name: 'AOAI_PROXY__ADMIN__ADDRESS'
              value: '0.0.0.0:8643'
            }
          ]
          resources: {
            cpu: json('0.25')
            memory: '0.5Gi'
          }
          probes: [
            {
              type: 'Startup'
              httpGet: {
                path: '/readyz'
                port: 8643
              }
              periodSeconds: 2
              failureThreshold: 60
            }
            {
              type: 'Readiness'
              httpGet: {
                path: '/readyz'
                port: 8643
              }
              periodSeconds: 5
            }
            {
              // A missing token is no reason to restart.
              type: 'Liveness'
              httpGet: {
                path: '/healthz'
                port: 8643
              }
              periodSeconds: 10
              timeoutSeconds: 5
            }
          ]
        }
      ]
      scale: {
        minReplicas: minReplicas
        maxReplicas: maxReplicas
      }
    }
  }
  dependsOn: [
    pull
    roles
  ]
}

output fqdn string = app.properties.configuration.ingress.fqdn
